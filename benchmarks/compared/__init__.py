"""What Dormouse is compared with."""
