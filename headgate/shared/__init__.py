"""What the gateways of one site share through Redis: the uplink, and later more."""
