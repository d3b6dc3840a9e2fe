"""The HTTP service: a micro-batcher, FastAPI routes and the BentoML service around them."""
