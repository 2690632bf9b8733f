"""What the speed programs share: tables, a loopback endpoint of fixed latency, an S3 server, simulated systems and runs."""
