"""What a detector does well and what not, on a whole data set."""
