"""What the SDK takes and answers: frozen values without protos, named as in the contracts."""
