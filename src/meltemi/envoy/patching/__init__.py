"""Users' patches of finished resources: messages in, messages out."""
