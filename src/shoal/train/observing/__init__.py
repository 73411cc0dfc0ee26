"""What people see of a run while it trains and afterwards: the live line, other programs' boards, where time went."""
