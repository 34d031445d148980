"""The kubelet: one node's pods, from the API's word to processes and back."""
