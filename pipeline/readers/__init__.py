"""One module a kind of file: `read(path) -> Scan`. `content` tells kinds apart, `intensity` makes 8 bits of them."""
