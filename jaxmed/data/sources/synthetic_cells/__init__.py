"""Blood cells drawn by the program: a data set that needs no download."""
