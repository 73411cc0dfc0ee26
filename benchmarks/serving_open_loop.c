/* A client that sends on schedule, whether or not answers come. Built and called by serving_open_loop.py.
 *
 *     open_loop POOL PORT RATE SECONDS CONNECTIONS KILL_PID KILL_AT_S RECORDS
 *
 * RATE 0 sends as fast as answers come. KILL_PID 0 kills nothing. RECORDS is a file of `struct record`, one for every
 * request that was due, in order: nothing is added up here, so nothing can be left out. One thread, one epoll; a
 * connection has one request at a time. In C because it shares the cores with the server: what it uses, that lacks.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_S 2.0 /* for all connections, before the first request */
#define DRAIN_S 2.0
#define RECONNECT_S 0.02
#define ANSWER_BYTES 16384
#define EVENTS 256

enum { UNANSWERED = 0, UNSENT = -1, LOST = -2, UNREADABLE = -3 };

struct record {
    double due_s, sent_s, done_s; /* since the start */
    int32_t status;               /* of the answer, or one of the above */
    int32_t has_retry_after;
};

enum state { CONNECTING, FREE, WAITING, CLOSED };

struct connection {
    int fd;
    enum state state;
    int is_stacked; /* stands on the stack of free ones; what its state says counts */
    long request;   /* the number of its record */
    int length;
    double reconnect_s; /* on the clock, not since the start */
    char answer[ANSWER_BYTES + 1];
};

static struct connection *connections;
static int num_connections, num_open, num_closed;
static int *stack, stack_size;
static struct record *records;
static long num_records, room;
static char **bodies;
static int *lengths, num_bodies;
static long num_sent;
static int epoll;
static struct sockaddr_in address;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void read_pool(const char *path)
{
    FILE *file = fopen(path, "rb");
    char digits[9] = {0};
    if (!file)
        fail(path);
    while (fread(digits, 1, 8, file) == 8) {
        int length = atoi(digits);
        bodies = realloc(bodies, (num_bodies + 1) * sizeof *bodies);
        lengths = realloc(lengths, (num_bodies + 1) * sizeof *lengths);
        bodies[num_bodies] = malloc(length);
        if (fread(bodies[num_bodies], 1, length, file) != (size_t)length)
            fail(path);
        lengths[num_bodies++] = length;
    }
    fclose(file);
}

static long new_record(double due_s)
{
    if (num_records == room) {
        room = room ? 2 * room : 1 << 16;
        records = realloc(records, room * sizeof *records);
        if (!records)
            fail("realloc");
    }
    records[num_records] = (struct record){due_s, 0, 0, UNSENT, 0};
    return num_records++;
}

static void let_go(struct connection *each)
{
    each->state = FREE;
    each->length = 0;
    if (!each->is_stacked) {
        each->is_stacked = 1;
        stack[stack_size++] = each - connections;
    }
}

/* The one that was free last: connections beyond those that the server needs stay idle. */
static struct connection *take(void)
{
    while (stack_size) {
        struct connection *each = &connections[stack[--stack_size]];
        each->is_stacked = 0;
        if (each->state == FREE)
            return each;
    }
    return NULL;
}

static void open_connection(struct connection *each)
{
    int one = 1;
    struct epoll_event event = {EPOLLIN | EPOLLOUT, {.ptr = each}};
    each->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (each->fd < 0)
        fail("socket");
    setsockopt(each->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    each->state = CONNECTING;
    each->length = 0;
    connect(each->fd, (struct sockaddr *)&address, sizeof address);
    epoll_ctl(epoll, EPOLL_CTL_ADD, each->fd, &event);
}

static void lose(struct connection *each, double at_s)
{
    if (each->state == WAITING) {
        records[each->request].status = LOST;
        records[each->request].done_s = at_s;
    }
    num_open -= each->state != CONNECTING;
    close(each->fd);
    each->state = CLOSED;
    each->reconnect_s = now_s() + RECONNECT_S;
    num_closed++;
}

static void send_request(double due_s, double began_s)
{
    struct connection *each = take();
    long number = new_record(due_s);
    if (!each)
        return;
    int at = num_sent++ % num_bodies;
    records[number].sent_s = now_s() - began_s;
    records[number].status = UNANSWERED;
    each->request = number;
    each->state = WAITING;
    /* A body is far smaller than the socket's buffer, which is empty. */
    if (send(each->fd, bodies[at], lengths[at], MSG_NOSIGNAL) != lengths[at])
        lose(each, records[number].sent_s);
}

/* Whether the body is all there: `length` bytes of it have come. */
static int is_whole(const char *head, int length, int is_last_chunk)
{
    const char *field = strcasestr(head, "\r\ncontent-length:");
    if (field)
        return length >= atoi(field + 17);
    return is_last_chunk || !strcasestr(head, "\r\ntransfer-encoding: chunked");
}

static void end_request(struct connection *each, int status, int has_retry_after, double at_s)
{
    struct record *record = &records[each->request];
    record->status = status;
    record->has_retry_after = has_retry_after;
    record->done_s = at_s;
    let_go(each);
}

static void receive(struct connection *each, double began_s)
{
    int got = recv(each->fd, each->answer + each->length, ANSWER_BYTES - each->length, 0);
    double at_s = now_s() - began_s;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0 || each->state != WAITING) {
        lose(each, at_s);
        return;
    }
    each->length += got;
    each->answer[each->length] = 0;
    int is_full = each->length == ANSWER_BYTES;
    int is_last_chunk = each->length >= 5 && !memcmp(each->answer + each->length - 5, "0\r\n\r\n", 5);
    char *end = strstr(each->answer, "\r\n\r\n");
    if (!end && !is_full)
        return;
    if (end) {
        /* The head alone is searched, with the end of its last line. */
        char kept = end[2];
        end[2] = 0;
        int is_good = !strncmp(each->answer, "HTTP/1.", 7);
        int whole = is_whole(each->answer, each->length - (end + 4 - each->answer), is_last_chunk);
        int has_retry_after = strcasestr(each->answer, "\r\nretry-after:") != NULL;
        int closes = strcasestr(each->answer, "\r\nconnection: close") != NULL;
        end[2] = kept;
        if (is_good && !whole && !is_full)
            return;
        if (is_good && whole) {
            end_request(each, atoi(each->answer + 9), has_retry_after, at_s);
            if (closes)
                lose(each, at_s);
            return;
        }
    }
    end_request(each, UNREADABLE, 0, at_s);
    lose(each, at_s);
}

static void poll_events(int timeout_ms, double began_s)
{
    struct epoll_event events[EVENTS];
    int found = epoll_wait(epoll, events, EVENTS, timeout_ms);
    for (int i = 0; i < found; i++) {
        struct connection *each = events[i].data.ptr;
        if (each->state == CONNECTING && !(events[i].events & (EPOLLERR | EPOLLHUP))) {
            struct epoll_event event = {EPOLLIN, {.ptr = each}};
            epoll_ctl(epoll, EPOLL_CTL_MOD, each->fd, &event);
            num_open++;
            let_go(each);
        } else if (events[i].events & EPOLLIN) {
            receive(each, began_s);
        } else {
            lose(each, now_s() - began_s);
        }
    }
    for (int i = 0; num_closed && i < num_connections; i++)
        if (connections[i].state == CLOSED && connections[i].reconnect_s <= now_s()) {
            num_closed--;
            open_connection(&connections[i]);
        }
}

static int num_waiting(void)
{
    int found = 0;
    for (int i = 0; i < num_connections; i++)
        found += connections[i].state == WAITING;
    return found;
}

static double cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* Send for this long, wait a little for the last answers, and return the cores that sending took on average. */
static double run(double rate, double seconds, int kill_pid, double kill_at_s)
{
    double began_s = now_s(), used_s = cpu_s();
    long due = 0, all_due = (long)(rate * seconds);
    while (1) {
        double at_s = now_s() - began_s;
        if (kill_pid && at_s >= kill_at_s) {
            kill(kill_pid, SIGKILL);
            kill_pid = 0;
        }
        if (rate > 0) {
            /* Late or not, each has its turn: none is passed over because this program was busy. */
            while (due < all_due && due / rate <= at_s)
                send_request(due++ / rate, began_s);
            if (due == all_due && at_s >= seconds)
                break;
            double wait_s = (due < all_due ? due / rate : seconds) - at_s;
            /* In whole milliseconds, rounded up: what is due sooner is sent up to 1 ms late, and counts as that. */
            poll_events(wait_s <= 0 ? 0 : (int)(wait_s * 1000) + 1, began_s);
        } else {
            struct connection *each;
            if (at_s >= seconds)
                break;
            while ((each = take())) {
                let_go(each);
                send_request(now_s() - began_s, began_s);
            }
            poll_events(100, began_s);
        }
    }
    double until_s = now_s() + DRAIN_S;
    used_s = (cpu_s() - used_s) / (now_s() - began_s);
    while (num_waiting() && now_s() < until_s)
        poll_events(20, began_s);
    return used_s;
}

int main(int count, char **given)
{
    if (count != 9) {
        fprintf(stderr, "expected POOL PORT RATE SECONDS CONNECTIONS KILL_PID KILL_AT_S RECORDS\n");
        return 2;
    }
    read_pool(given[1]);
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(given[2]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    num_connections = atoi(given[5]);
    connections = calloc(num_connections, sizeof *connections);
    stack = calloc(num_connections, sizeof *stack);
    epoll = epoll_create1(0);
    for (int i = 0; i < num_connections; i++)
        open_connection(&connections[i]);
    double until_s = now_s() + CONNECT_S;
    while (num_open < num_connections && now_s() < until_s)
        poll_events(20, 0);
    double cores = run(atof(given[3]), atof(given[4]), atoi(given[6]), atof(given[7]));
    FILE *file = fopen(given[8], "wb");
    if (!file || fwrite(records, sizeof *records, num_records, file) != (size_t)num_records || fclose(file))
        fail(given[8]);
    printf("{\"cores_used\": %f, \"connections\": %d}\n", cores, num_open);
    return 0;
}
