"""How people and the system see and steer a running agent."""
