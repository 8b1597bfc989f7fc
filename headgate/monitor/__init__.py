"""What the spool looks like now and will soon, what is wrong with it, and the words for both."""
