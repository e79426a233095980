"""The kernel's door: the only package that knows pyfuse3. It parses requests, calls the service, converts answers."""
