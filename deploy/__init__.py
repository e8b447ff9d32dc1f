"""How a cluster is deployed: images, CloudFormation, Prometheus and Grafana (nothing of it is built yet)."""
