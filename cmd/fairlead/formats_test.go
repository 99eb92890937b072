package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// nextForms are those of a build in which all records of all rooms have a new format: what
// they were, in another document.
func nextForms() (all []store.RecordForms) {
	type outer struct {
		Format int             `json:"format"`
		Body   json.RawMessage `json:"body"`
	}
	next := store.Form{
		Encode: func(value []byte) ([]byte, error) { return json.Marshal(outer{2, value}) },
		Decode: func(value []byte) ([]byte, error) {
			var o outer
			err := json.Unmarshal(value, &o)
			return o.Body, err
		},
	}
	for _, prefix := range []string{
		"iam/", "iamused/", "iamclosed/", "ca/", "caissued/", "caanchor/",
		store.RegistryOwned, store.RegistryImported, store.RegistryOperations,
	} {
		all = append(all, store.RecordForms{Prefix: prefix, Own: 1, Forms: map[int]store.Form{2: next}})
	}
	return all
}

// TestRecordsOfAllRoomsChangeFormat has two servers over one etcd, one of them of a build
// in which every record has a new format. Both serve what either wrote, for as long as the
// older one is there; then all records come into the new format, and say what they said.
func TestRecordsOfAllRoomsChangeFormat(t *testing.T) {
	t.Parallel()
	e, dir := meshtest.StartEtcd(t, 1), t.TempDir()
	key := filepath.Join(dir, "seal.key")
	meshtest.WriteFile(t, key, []byte(hex.EncodeToString(slices.Repeat([]byte{3}, 32))))
	start := func(forms []store.RecordForms) *script {
		p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) {
			c.Store = store.Config{
				Endpoints: e.Endpoints, SealKeyFile: key, Logger: c.Log, Records: forms,
				MemberLease: 3 * time.Second, FormatWait: time.Millisecond,
			}
			c.CredentialsFile, c.PeerListen = filepath.Join(dir, "credentials"), "127.0.0.1:0"
		}})
		return newScript(t, p)
	}
	older, newer := start(nil), start(nextForms())
	do := func(s *script, commands ...string) {
		t.Helper()
		for _, command := range commands {
			if out := s.command(command); strings.Contains("\n"+out, "\n? ") {
				t.Fatalf("fairlead %s: %s", command, out)
			}
		}
	}
	for _, s := range []*script{older, newer} {
		s.write("shop.yaml", "kind: Mesh\nname: shop\nspec: {}\n---\nkind: VirtualNode\nmesh: shop\nname: cart\nspec: {serviceDiscovery: {dns: {hostname: localhost}}, listeners: [{portMapping: {port: 80, protocol: http}}]}\n")
		s.write("trust.json", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000001:root"},"Action":"sts:AssumeRole"}]}`)
		s.write("request.pem", certificateRequest(t))
	}
	registerInstances(t, older.plane)
	do(older, "apply -f DIR/shop.yaml", "account create second --id 000000000002", "user create ann --administrator", "key create ann",
		"ca set -m shop --certificate-life 1h", "ca issue virtualNode/cart -m shop --csr DIR/request.pem")
	do(newer, "role create proxy --trust DIR/trust.json", "identity-provider create amazon --aws-account 111122223333", "account create third --id 000000000003",
		"account delete 000000000003", "user create bob", "key create bob", "ca issue virtualNode/cart -m shop --csr DIR/request.pem")
	// What each says of what there is. Lists are served from what a server has heard of.
	says := func(s *script) (all string) {
		for _, command := range []string{"account list", "user list", "role list", "role get proxy", "identity-provider list", "user get ann", "key list ann", "key list bob", "ca show -m shop", "ca list -m shop"} {
			all += "$ " + command + "\n" + s.command(command)
		}
		c := cloudMapOf(s.plane)
		services, err := c.ListServices(t.Context(), &servicediscovery.ListServicesInput{})
		if err != nil {
			t.Fatal(err)
		}
		var instances []string
		for _, service := range services.Services {
			found, err := c.ListInstances(t.Context(), &servicediscovery.ListInstancesInput{ServiceId: service.Id})
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range found.Instances {
				instances = append(instances, fmt.Sprint(*service.Name, "/", *i.Id, " ", i.Attributes))
			}
		}
		slices.Sort(instances)
		return all + strings.Join(instances, "\n")
	}
	var before string
	meshtest.Eventually(t, "both servers say the same", func() error {
		before = says(newer)
		if d := cmp.Diff(says(older), before); d != "" {
			return errors.New(d)
		}
		return nil
	})
	c := etcdClient(t, e.Endpoints...)
	count := func() (formats map[string]int) {
		t.Helper()
		r, err := c.Get(t.Context(), "fairlead/record/", clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		formats = map[string]int{}
		for _, kv := range r.Kvs {
			var doc struct {
				Format int `json:"format"`
			}
			if json.Unmarshal(kv.Value, &doc) != nil {
				continue // an id under a name
			}
			family := strings.Split(strings.TrimPrefix(string(kv.Key), "fairlead/record/"), "/")[0]
			formats[fmt.Sprint(family, " ", doc.Format)]++
		}
		return formats
	}
	was := count()
	for _, family := range []string{"iam", "iamclosed", "ca", "caanchor", "caissued", "registry", "registry-operation"} {
		if was[family+" 1"] == 0 || was[family+" 2"] != 0 {
			t.Errorf("with the older server there: %v", was)
		}
	}
	older.plane.Stop(t)
	meshtest.Eventually(t, "all records in the new format", func() error {
		now := count()
		for family := range now {
			if !strings.HasSuffix(family, " 2") {
				return fmt.Errorf("%v", now)
			}
		}
		return nil
	})
	if d := cmp.Diff(before, says(newer)); d != "" {
		t.Errorf("(-before +in the new format)\n%s", d)
	}
	do(newer, "user create eve", "key create eve", "role delete proxy", "ca issue virtualNode/cart -m shop --csr DIR/request.pem", "account delete 000000000002")
	if _, err := cloudMapOf(newer.plane).CreateHttpNamespace(t.Context(), &servicediscovery.CreateHttpNamespaceInput{Name: aws.String("late")}); err != nil {
		t.Error(err)
	}
}
