// Package quota keeps quotas of requests over all proxies and all replicas.
//
// Proxies count by themselves and report every 5 s; what they are answered is a rate. A Bucket
// is the arithmetic: what proxies report goes in, and rates come out, such that all together
// they let through no more than the quota. The buckets of a policy are with one replica, its
// owner, in a table; a replica whose proxies report has a desk for the policy, which asks the
// owner. The store has a record of each policy: who owns it, and what was used, so that any
// replica can go on where another one ended.
//
// It knows no Envoy and no streams of gRPC (internal/xds has those), and imports internal/mesh
// and internal/store.
package quota
