"""The services of a Kubernetes cluster, seen from a laptop. The one place of the client that knows Kubernetes."""
