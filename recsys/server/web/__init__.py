"""The face of the server: endpoints, their schemas, the gate, figures and logs."""
