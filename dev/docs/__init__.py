"""What is made by a program in the docs, so that it is what the program really says."""
