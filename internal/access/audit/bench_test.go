package audit

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// typical is an event as a create call makes it.
func typical(account string, i int) Event {
	return Event{
		Time: time.Unix(1_800_000_000+int64(i), 0), RequestID: "6a1b0c4e-0000-4000-8000-000000000001", Source: AppMesh,
		Name: "UpdateRoute", Region: "us-east-1", Account: account,
		Principal: Identity{Type: "IAMUser", ID: "AIDA0001", ARN: "arn:aws:iam::" + account + ":user/u", Account: account, KeyID: "FLAK0001", User: "u"},
		SourceIP:  "192.0.2.7", UserAgent: "aws-sdk-go-v2/1.41.9 ua/2.1 os/linux lang/go#1.26 md/GOOS#linux api/appmesh#1.36.0",
		Request: json.RawMessage(fmt.Sprintf(`{"meshName":"shop","virtualRouterName":"r","routeName":"all","spec":{"httpRoute":{"match":{"prefix":"/"},`+
			`"action":{"weightedTargets":[{"virtualNode":"blue-%d","weight":90},{"virtualNode":"green","weight":10}]}}}}`, i)),
		Response:  json.RawMessage(`{"route":{"meshName":"shop","virtualRouterName":"r","routeName":"all","status":{"status":"ACTIVE"},"metadata":{"version":7}}}`),
		Resources: []Resource{{ARN: "arn:aws:appmesh:us-east-1:" + account + ":mesh/shop/virtualRouter/r/route/all", Account: account, Type: "AWS::AppMesh::Route"}},
	}
}

func BenchmarkWrite(b *testing.B) {
	l := openLog(b, Config{MaxFiles: 3})
	e := typical(alice, 0)
	b.ReportAllocs()
	for b.Loop() {
		l.Write(e)
	}
}

func BenchmarkWriteParallel(b *testing.B) {
	l := openLog(b, Config{MaxFiles: 3})
	e := typical(alice, 0)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Write(e)
		}
	})
}

// BenchmarkQuery asks a log of 100 MB in four files, half of one account's.
func BenchmarkQuery(b *testing.B) {
	const files = 4
	l := openLog(b, Config{MaxBytes: 100 << 20 / files, MaxFiles: files})
	for i := 0; l.seq < files+1; i++ {
		account := alice
		if i%2 == 1 {
			account = bob
		}
		l.Write(typical(account, i))
	}
	for _, c := range []struct {
		name string
		q    Query
	}{
		{"newest", Query{Account: alice}},
		{"nobody", Query{Account: "000000000009"}},
		{"name", Query{Account: alice, Name: "DeleteMesh"}},
		{"time", Query{Account: alice, To: time.Unix(1, 0)}},
		{"role", Query{Account: alice, User: "nobody"}},
		{"resource", Query{Account: alice, Resource: "arn:aws:appmesh:us-east-1:000000000001:mesh/other*"}},
		{"decoded", Query{Account: alice, Resource: "arn:aws:appmesh:us-east-1:000000000001:mesh/shop"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			calls := 0
			for b.Loop() {
				q := c.q
				for {
					events, next, err := l.Query(b.Context(), q)
					if err != nil {
						b.Fatal(err)
					}
					calls++
					if q.Next = next; next == "" || len(events) > 0 {
						break
					}
				}
			}
			b.ReportMetric(float64(calls)/float64(b.N), "calls/op")
		})
	}
}
