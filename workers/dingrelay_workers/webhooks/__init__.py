"""What business applications get: endpoints, deliveries, and who sees to them."""
