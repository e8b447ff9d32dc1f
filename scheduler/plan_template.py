"""What ``loads init`` writes: a plan that validates as it is, with every key that most plans need explained."""

TEMPLATE = """\
# A Loads plan. Check it with `loads validate FILE`, run it with `loads run FILE`;
# `loads demo-target` starts a server on port 8000 to try it on.
name: my first plan

env:
  TARGET: "http://127.0.0.1:8000"   # ${TARGET} below; `loads run FILE --set TARGET=http://...` beats it

thresholds:                         # the run passes when all of them hold at the end
  - p95 < 300ms                     # response time, measured from when a request was due
  - error_rate(browse) < 1%
  - iteration:p95(browse@steady) < 2s
  - dropped < 0.1%                  # of the iterations that the plan asked for

abort_when:                         # the run ends early when one of them has held for so long
  - error_rate > 50% for 10s

steps:
  - name: browse
    load:                           # open model: iterations start at this rate, however slow the target is
      stages:
        - {rate: [0, 20], for: 10s}
        - {rate: 20, for: 30s, name: steady}
      max_in_flight: 1000           # iterations that would be more than that are dropped, and counted
    http:
      base_url: ${TARGET}
      timeout: 10s
      headers: {Accept: application/json}
      do:                           # one iteration
        - get: /echo?page=${fn.random_int(1, 20)}
          name: list                # the series in the report; default: method and path
          check: {status: 200, max_time: 2s}
          extract: {page: {json: query.page}}     # JMESPath, regex or header; then ${var.page}
          on_error: end_iteration
        - pause: {between: [100ms, 500ms]}
        - one_of:
            - {weight: 3, do: [{get: "/bytes/1000?page=${var.page}"}]}
            - {weight: 1, do: [{post: /echo, json: {page: "${var.page}", by: "${user.number}"}}]}

  - name: loyal users
    run_delay: 5s                   # from the run's start
    load: {users: 5, for: 30s}      # closed model: each user starts again when the last iteration is over
    http:
      base_url: ${TARGET}
      before:                       # once a user
        - post: /echo
          name: log in
          form: {user: "user-${user.number}"}
      do:
        - get: /
        - pause: 1s
"""
