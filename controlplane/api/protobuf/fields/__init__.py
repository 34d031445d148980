"""The field numbers of every kind a client may send, one string of lines a family; `../schema.py` reads them."""
