"""The Open Inference Protocol over gRPC: HTTP/2, protocol buffers and the service, beside the HTTP front."""

from shoal.serve.grpc.server import GrpcServer, start_grpc

__all__ = ["GrpcServer", "start_grpc"]
