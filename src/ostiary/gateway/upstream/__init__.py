"""The only package that opens sockets to providers. It must not decide what is sent, nor go where an answer points."""
