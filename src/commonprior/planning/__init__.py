"""What a round will cost, what it protects, and which sum fits: before anybody is invited."""
