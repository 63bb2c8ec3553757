"""What Dormouse does under daphne: everything that reaches into the objects of daphne and Twisted."""
