"""The same work behind other servers, each written as its documentation recommends, each in an environment of its own."""
