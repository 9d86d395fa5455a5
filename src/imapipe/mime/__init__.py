"""What is in a mail: parts, transfer encodings, charsets, text; parsers of bytes that do no I/O."""
