"""The HTTP interface: routes, error responses, metrics, jobs, the OpenAPI document."""
