"""Other engines, as they are driven by the tests of this folder: each module holds the functions that a test may call by name."""
