"""Tables, published figures and one HTML page over finished runs. A leaf: nothing but the command line imports it."""
