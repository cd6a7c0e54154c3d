"""Which pods get a proxy, and what injection writes on them. Pure: objects as JSON in and out."""
