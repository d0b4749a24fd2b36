"""What anyone can run to measure the service; see the README, section Speed."""
