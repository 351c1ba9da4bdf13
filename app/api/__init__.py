"""HTTP and nothing else: routes, models of requests and answers, errors, limits."""
