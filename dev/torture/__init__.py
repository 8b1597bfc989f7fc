"""`make torture`: every campaign of docs/RELIABILITY.md at a chosen size, and one table of them."""
