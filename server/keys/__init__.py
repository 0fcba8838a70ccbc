"""What only this station has, and who may use it: keys, certificates, TLS, the operator's token."""
