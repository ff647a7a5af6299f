"""What business applications are told: endpoints, deliveries, and who sees to them."""
