"""One module a kind of file: `read(path) -> Scan`. `content` tells the kinds apart, `intensity` makes 8 bits of them."""
