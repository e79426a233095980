"""The socket's door: newline JSON on the control socket, for the command line, programs and watchers.

The daemon's only package that opens sockets. It asks the service for everything through the `Queries` port of `methods`
and may import `model` and `errors` besides; it never touches the index or a disk. `fusestore.client`, its other end,
uses `address` and `protocol` alone.
"""
