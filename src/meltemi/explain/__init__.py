"""What the mesh does with one request, read off the model: no proxy is asked, and no request is sent."""
