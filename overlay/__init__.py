"""overlay: carry packets between the pods of different nodes."""
