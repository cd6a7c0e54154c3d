"""What makes Deployments run: ReplicaSets and Pods from Deployments, EndpointSlices from Services, default accounts.

Each controller is a pure function from the present state to a plan: the changes that bring it nearer to what the
user has asked for. `loop` notices what has changed, asks the functions concerned, and carries the plans out.
"""
