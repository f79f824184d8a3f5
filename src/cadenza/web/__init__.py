"""HTTP: routes, streams and problem documents. Routes live here, decisions never do."""
