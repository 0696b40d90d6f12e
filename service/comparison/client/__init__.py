"""The client side of HTTP and of the Open Inference Protocol, for measuring servers; the server side is elsewhere."""
