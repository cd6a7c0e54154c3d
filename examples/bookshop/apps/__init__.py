"""The bookshop: seven small programs that know nothing of the mesh they run in."""
