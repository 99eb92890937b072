package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Everything that is made is found, changed and deleted again, and nothing stays in the store.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := w.shop()
	w.register(service, "a/b", `{"AWS_INSTANCE_IPV4":"10.0.0.1","AWS_INSTANCE_IPV6":"::1","AWS_INSTANCE_PORT":"8080","AVAILABILITY_ZONE":"z","v":"1"}`)
	got, ok := w.r.Instances(here.instancesKey(serviceName{"shop", "cart"}))
	diff(t, true, ok)
	diff(t, []mesh.Instance{{
		ID: "a/b", IPv4: "10.0.0.1", IPv6: "::1", Port: 8080, Zone: "z",
		Attributes: map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_IPV6": "::1", "AWS_INSTANCE_PORT": "8080", "AVAILABILITY_ZONE": "z", "v": "1"},
	}}, got)
	one := w.do("GetInstance", `{"ServiceId":%q,"InstanceId":"a/b"}`, here.arn(serviceKind, service))
	diff(t, any("a/b"), one["Instance"].(map[string]any)["Id"])
	w.refused(ErrResourceInUse, "a/b", "DeleteService", `{"Id":%q}`, service)
	namespace := w.do("GetService", `{"Id":%q}`, service)["Service"].(map[string]any)["NamespaceId"].(string)
	w.refused(ErrResourceInUse, service, "DeleteNamespace", `{"Id":%q}`, namespace)
	w.do("UpdateService", `{"Id":%q,"Service":{"Description":"new"}}`, service)
	w.do("UpdateServiceAttributes", `{"ServiceId":%q,"Attributes":{"a":"1","b":"2"}}`, service)
	w.do("DeleteServiceAttributes", `{"ServiceId":%q,"Attributes":["a"]}`, service)
	attributes := w.do("GetServiceAttributes", `{"ServiceId":%q}`, service)["ServiceAttributes"].(map[string]any)["Attributes"]
	diff(t, any(map[string]any{"b": "2"}), attributes)
	w.do("UpdateHttpNamespace", `{"Id":%q,"Namespace":{"Description":"changed"}}`, namespace)
	described := w.do("GetNamespace", `{"Id":%q}`, namespace)["Namespace"].(map[string]any)
	diff(t, any("changed"), described["Description"])
	diff(t, any(1.0), described["ServiceCount"])
	w.do("DeregisterInstance", `{"ServiceId":%q,"InstanceId":"a/b"}`, service)
	diff(t, []string{}, w.r.ids())
	w.refused(ErrInstanceNotFound, "a/b", "DeregisterInstance", `{"ServiceId":%q,"InstanceId":"a/b"}`, service)
	w.do("DeleteService", `{"Id":%q}`, service)
	w.refused(ErrServiceNotFound, service, "DeleteService", `{"Id":%q}`, service)
	w.do("DeleteNamespace", `{"Id":%q}`, namespace)
	w.refused(ErrNamespaceNotFound, namespace, "DeleteNamespace", `{"Id":%q}`, namespace)
	left, err := w.r.store.Records(t.Context(), self, followed)
	if err != nil || len(left) > 0 {
		t.Errorf("there is left %v, %v", left, err)
	}
	if _, ok := w.r.Instances(here.instancesKey(serviceName{"shop", "cart"})); ok {
		t.Error("the deleted service exists")
	}
}

// A request that is repeated is done once; another one with its token is refused, and so
// is another one for the same name.
func TestRepeatedRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const create = `{"Name":"shop","CreatorRequestId":"t","Description":%q}`
	first := w.do("CreateHttpNamespace", create, "d")
	diff(t, first, w.do("CreateHttpNamespace", create, "d"))
	diff(t, map[string]string{"DuplicateOperationId": first["OperationId"].(string)}, w.refused(ErrDuplicateRequest, `"t"`, "CreateHttpNamespace", create, "other"))
	w.refused(ErrDuplicateRequest, "", "CreatePrivateDnsNamespace", `{"Name":"shop","CreatorRequestId":"t","Vpc":"v"}`)
	members := w.refused(ErrNamespaceAlreadyExists, "shop", "CreateHttpNamespace", `{"Name":"shop","CreatorRequestId":"u"}`)
	diff(t, "t", members["CreatorRequestId"])
	namespace := members["NamespaceId"]
	const service = `{"Name":"cart","NamespaceId":%q,"CreatorRequestId":%q}`
	made := w.do("CreateService", service, namespace, "s")
	diff(t, made, w.do("CreateService", service, namespace, "s"))
	id := made["Service"].(map[string]any)["Id"].(string)
	diff(t, map[string]string{"ServiceId": id, "ServiceArn": here.arn(serviceKind, id), "CreatorRequestId": "s"},
		w.refused(ErrServiceAlreadyExists, "cart", "CreateService", service, namespace, "other"))
	const register = `{"ServiceId":%q,"InstanceId":%q,"CreatorRequestId":"r","Attributes":{"a":"b"}}`
	registered := w.do("RegisterInstance", register, id, "i")
	diff(t, registered, w.do("RegisterInstance", register, id, "i"))
	w.refused(ErrDuplicateRequest, "", "RegisterInstance", register, id, "j")
	// A repetition that comes late brings nothing back; one with a lease is a heartbeat.
	const beat = `{"ServiceId":%q,"InstanceId":"beats","CreatorRequestId":"b","Attributes":{"FAIRLEAD_LEASE_SECONDS":"10"}}`
	w.do("RegisterInstance", beat, id)
	for _, instance := range []string{"i", "beats"} {
		w.do("DeregisterInstance", `{"ServiceId":%q,"InstanceId":%q}`, id, instance)
	}
	diff(t, registered, w.do("RegisterInstance", register, id, "i"))
	w.do("RegisterInstance", beat, id)
	diff(t, []string{"beats"}, w.r.ids())
	// The operation was done at once, and says so.
	op := w.do("GetOperation", `{"OperationId":%q}`, registered["OperationId"])["Operation"].(map[string]any)
	diff(t, any(map[string]any{"SERVICE": id, "INSTANCE": "i"}), op["Targets"])
	diff(t, []any{"SUCCESS", "REGISTER_INSTANCE"}, []any{op["Status"], op["Type"]})
	diff(t, op["CreateDate"], op["UpdateDate"])
	if at, ok := op["CreateDate"].(float64); !ok || at < 1.7e9 {
		t.Errorf("CreateDate is %v, want seconds since 1970", op["CreateDate"])
	}
}

// What the model or a rule forbids is said in one line that names the member.
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, Config{Limits: Limits{Namespaces: 3, ServicesPerNamespace: 3, InstancesPerService: 2}})
	service := w.shop()
	namespace := w.do("ListNamespaces", `{}`)["Namespaces"].([]any)[0].(map[string]any)["Id"].(string)
	w.do("CreatePrivateDnsNamespace", `{"Name":"dns.local","Vpc":"vpc-1","Properties":{"DnsProperties":{"SOA":{"TTL":30}}}}`)
	dns := w.do("ListNamespaces", `{"Filters":[{"Name":"TYPE","Values":["DNS_PRIVATE"]}]}`)["Namespaces"].([]any)[0].(map[string]any)["Id"].(string)
	plain := w.do("CreateService", `{"Name":"srv","NamespaceId":%q,"DnsConfig":{"DnsRecords":[{"Type":"SRV","TTL":5}]}}`, dns)["Service"].(map[string]any)["Id"].(string)
	tags := make([]string, 51)
	for i := range tags {
		tags[i] = fmt.Sprintf(`{"Key":"k%d","Value":""}`, i)
	}
	big, _ := json.Marshal(map[string]string{"a": strings.Repeat("x", 1000), "b": strings.Repeat("x", 1000), "c": strings.Repeat("x", 1000), "d": strings.Repeat("x", 1000), "e": strings.Repeat("x", 1000)})
	for _, c := range []struct {
		code             mesh.Code
		text, op, format string
		args             []any
	}{
		{ErrInvalidInput, "Name is required", "CreateHttpNamespace", `{}`, nil},
		{ErrInvalidInput, "is not valid JSON", "CreateHttpNamespace", `{`, nil},
		{ErrInvalidInput, "must be an object", "CreateHttpNamespace", `[]`, nil},
		{ErrInvalidInput, "Name must be a string, the number 1 was given", "CreateHttpNamespace", `{"Name":1}`, nil},
		{ErrInvalidInput, "arn:", "CreateHttpNamespace", `{"Name":"arn:x"}`, nil},
		{ErrInvalidInput, "aws:", "CreateHttpNamespace", `{"Name":"x","Tags":[{"Key":"aws:x","Value":""}]}`, nil},
		{ErrInvalidInput, "twice", "CreateHttpNamespace", `{"Name":"x","Tags":[{"Key":"x","Value":""},{"Key":"x","Value":""}]}`, nil},
		{ErrTooManyTags, "51", "CreateHttpNamespace", `{"Name":"x","Tags":[%s]}`, []any{strings.Join(tags, ",")}},
		{ErrInvalidInput, "public", "CreatePublicDnsNamespace", `{"Name":"x.example"}`, nil},
		{ErrInvalidInput, "Vpc is required", "CreatePrivateDnsNamespace", `{"Name":"x"}`, nil},
		{ErrInvalidInput, "HTTP", "UpdateHttpNamespace", `{"Id":%q,"Namespace":{"Description":""}}`, []any{dns}},
		{ErrInvalidInput, "NamespaceId is required", "CreateService", `{"Name":"x"}`, nil},
		{ErrNamespaceNotFound, "ns-none", "CreateService", `{"Name":"x","NamespaceId":"ns-none"}`, nil},
		{ErrInvalidInput, "127", "CreateService", `{"Name":%q,"NamespaceId":%q}`, []any{strings.Repeat("a.", 64) + "a", namespace}},
		{ErrInvalidInput, "HTTP namespace", "CreateService", `{"Name":"x","NamespaceId":%q,"DnsConfig":{"DnsRecords":[{"Type":"A","TTL":5}]}}`, []any{namespace}},
		{ErrInvalidInput, "A, AAAA", "CreateService", `{"Name":"x","NamespaceId":%q,"DnsConfig":{"DnsRecords":[{"Type":"A","TTL":5},{"Type":"SRV","TTL":5}]}}`, []any{dns}},
		{ErrInvalidInput, "Route 53", "CreateService", `{"Name":"x","NamespaceId":%q,"HealthCheckConfig":{"Type":"HTTP"}}`, []any{namespace}},
		{ErrInvalidInput, "without one", "UpdateService", `{"Id":%q,"Service":{"DnsConfig":{"DnsRecords":[{"Type":"A","TTL":5}]}}}`, []any{service}},
		{ErrInvalidInput, "id or the ARN", "GetService", `{"Id":"a/b"}`, nil},
		{ErrInvalidInput, "id or the ARN", "GetService", `{"Id":%q}`, []any{here.arn(namespaceKind, namespace)}},
		{ErrInvalidInput, "region", "GetService", `{"Id":%q}`, []any{place{testAccount, "eu-west-1"}.arn(serviceKind, service)}},
		{mesh.ErrForbidden, "000000000002", "GetService", `{"Id":%q}`, []any{place{"000000000002", testRegion}.arn(serviceKind, service)}},
		{ErrInvalidInput, "InstanceId must match", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"a b","Attributes":{}}`, []any{service}},
		{ErrInvalidInput, "AWS_INSTANCE_IPV4 must be an IPv4 address", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":{"AWS_INSTANCE_IPV4":"::1"}}`, []any{service}},
		{ErrInvalidInput, "AWS_INSTANCE_IPV6 must be an IPv6 address", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":{"AWS_INSTANCE_IPV6":"fe80::1%%25x"}}`, []any{service}},
		{ErrInvalidInput, "AWS_INSTANCE_PORT must be", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":{"AWS_INSTANCE_PORT":"080"}}`, []any{service}},
		{ErrInvalidInput, "10 to 3600", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":{"FAIRLEAD_LEASE_SECONDS":"9"}}`, []any{service}},
		{ErrInvalidInput, "HEALTHY or UNHEALTHY", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":{"AWS_INIT_HEALTH_STATUS":"x"}}`, []any{service}},
		{ErrInvalidInput, "HealthCheckCustomConfig", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":{"AWS_INSTANCE_IPV4":"1.1.1.1","AWS_INSTANCE_PORT":"1","AWS_INIT_HEALTH_STATUS":"HEALTHY"}}`, []any{plain}},
		{ErrInvalidInput, "AWS_INSTANCE_PORT is required", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":{"AWS_INSTANCE_IPV6":"::1"}}`, []any{plain}},
		{ErrInvalidInput, "AWS_INSTANCE_IPV4 is required", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":{"AWS_INSTANCE_PORT":"1"}}`, []any{plain}},
		{ErrInvalidInput, "alias", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":{"AWS_ALIAS_DNS_NAME":"x"}}`, []any{service}},
		{ErrInvalidInput, "EC2", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":{"AWS_EC2_INSTANCE_ID":"x"}}`, []any{service}},
		{ErrInvalidInput, "5000", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":%s}`, []any{service, big}},
		{ErrServiceNotFound, "srv-none", "RegisterInstance", `{"ServiceId":"srv-none","InstanceId":"i","Attributes":{}}`, nil},
		{ErrCustomHealthNotFound, plain, "UpdateInstanceCustomHealthStatus", `{"ServiceId":%q,"InstanceId":"i","Status":"HEALTHY"}`, []any{plain}},
		{ErrInstanceNotFound, "none", "GetInstancesHealthStatus", `{"ServiceId":%q,"Instances":["none"]}`, []any{service}},
		{ErrInstanceNotFound, "none", "GetInstance", `{"ServiceId":%q,"InstanceId":"none"}`, []any{service}},
		{ErrNamespaceNotFound, "none", "DiscoverInstances", `{"NamespaceName":"none","ServiceName":"cart"}`, nil},
		{ErrServiceNotFound, "none", "DiscoverInstances", `{"NamespaceName":"shop","ServiceName":"none"}`, nil},
		{ErrNamespaceNotFound, "shop", "DiscoverInstances", `{"NamespaceName":"shop","ServiceName":"cart","OwnerAccount":"000000000002"}`, nil},
		{ErrOperationNotFound, "none", "GetOperation", `{"OperationId":"none"}`, nil},
		{ErrResourceNotFound, "srv-none", "ListTagsForResource", `{"ResourceARN":%q}`, []any{here.arn(serviceKind, "srv-none")}},
		{ErrInvalidInput, "ARN", "TagResource", `{"ResourceARN":"x","Tags":[]}`, nil},
		{ErrTooManyTags, "51", "TagResource", `{"ResourceARN":%q,"Tags":[%s]}`, []any{here.arn(serviceKind, service), strings.Join(tags, ",")}},
		{ErrInvalidInput, "condition IN", "ListNamespaces", `{"Filters":[{"Name":"NAME","Values":["a"],"Condition":"IN"}]}`, nil},
		{ErrInvalidInput, "one value", "ListNamespaces", `{"Filters":[{"Name":"NAME","Values":["a","b"]}]}`, nil},
		{ErrInvalidInput, "SELF", "ListServices", `{"Filters":[{"Name":"RESOURCE_OWNER","Values":["a"]}]}`, nil},
		{ErrInvalidInput, "BETWEEN", "ListOperations", `{"Filters":[{"Name":"UPDATE_DATE","Values":["1"]}]}`, nil},
		{ErrInvalidInput, "NextToken", "ListInstances", `{"ServiceId":%q,"NextToken":"x"}`, []any{service}},
		{ErrInvalidInput, "from 1 to 100", "ListInstances", `{"ServiceId":%q,"MaxResults":101}`, []any{service}},
		{mesh.ErrUnknownOperation, "Nothing", "Nothing", `{}`, nil},
	} {
		if c.code == mesh.ErrForbidden {
			if _, err := w.try(c.op, c.format, c.args...); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: %v", c.op, err)
			}
			continue
		}
		w.refused(c.code, c.text, c.op, c.format, c.args...)
	}
	// The limits.
	w.namespace("third")
	w.refused(ErrResourceLimitExceeded, "allowed are 3", "CreateHttpNamespace", `{"Name":"fourth"}`)
	w.service(namespace, "two")
	w.service(namespace, "three")
	w.refused(ErrResourceLimitExceeded, "allowed are 3", "CreateService", `{"Name":"four","NamespaceId":%q}`, namespace)
	w.register(service, "one", `{}`)
	w.register(service, "two", `{}`)
	w.refused(ErrResourceLimitExceeded, "allowed are 2", "RegisterInstance", `{"ServiceId":%q,"InstanceId":"three","Attributes":{}}`, service)
	w.register(service, "two", `{"a":"changed"}`)
}

// Every operation asks before it does or tells anything, with the ARN and the tags.
func TestQuestions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := w.shop()
	w.register(service, "i", `{}`)
	w.do("TagResource", `{"ResourceARN":%q,"Tags":[{"Key":"a","Value":"b"}]}`, here.arn(serviceKind, service))
	namespace := w.do("ListNamespaces", `{}`)["Namespaces"].([]any)[0].(map[string]any)["Id"].(string)
	ns, srv := here.arn(namespaceKind, namespace), here.arn(serviceKind, service)
	tags := []mesh.TagRef{{Key: "a", Value: "b"}}
	asked := map[string][2]string{
		"CreateHttpNamespace":              {"*", `{"Name":"x"}`},
		"CreatePrivateDnsNamespace":        {"*", `{"Name":"x","Vpc":"v"}`},
		"CreatePublicDnsNamespace":         {"*", `{"Name":"x.y"}`},
		"UpdatePublicDnsNamespace":         {"*", `{"Id":"x","Namespace":{}}`},
		"ListNamespaces":                   {"*", `{}`},
		"ListServices":                     {"*", `{}`},
		"ListOperations":                   {"*", `{}`},
		"GetOperation":                     {"*", `{"OperationId":"x"}`},
		"CreateService":                    {ns, `{"Name":"x","NamespaceId":"` + namespace + `"}`},
		"GetNamespace":                     {ns, `{"Id":"` + namespace + `"}`},
		"DeleteNamespace":                  {ns, `{"Id":"` + ns + `"}`},
		"UpdateHttpNamespace":              {ns, `{"Id":"` + namespace + `","Namespace":{"Description":"x"}}`},
		"UpdatePrivateDnsNamespace":        {ns, `{"Id":"` + namespace + `","Namespace":{}}`},
		"GetService":                       {srv, `{"Id":"` + service + `"}`},
		"UpdateService":                    {srv, `{"Id":"` + service + `","Service":{}}`},
		"DeleteService":                    {srv, `{"Id":"` + service + `"}`},
		"GetServiceAttributes":             {srv, `{"ServiceId":"` + service + `"}`},
		"UpdateServiceAttributes":          {srv, `{"ServiceId":"` + service + `","Attributes":{"a":"b"}}`},
		"DeleteServiceAttributes":          {srv, `{"ServiceId":"` + service + `","Attributes":["a"]}`},
		"RegisterInstance":                 {srv, `{"ServiceId":"` + service + `","InstanceId":"x","Attributes":{}}`},
		"DeregisterInstance":               {srv, `{"ServiceId":"` + service + `","InstanceId":"i"}`},
		"GetInstance":                      {srv, `{"ServiceId":"` + service + `","InstanceId":"i"}`},
		"ListInstances":                    {srv, `{"ServiceId":"` + service + `"}`},
		"GetInstancesHealthStatus":         {srv, `{"ServiceId":"` + service + `"}`},
		"UpdateInstanceCustomHealthStatus": {srv, `{"ServiceId":"` + service + `","InstanceId":"i","Status":"UNHEALTHY"}`},
		"DiscoverInstances":                {srv, `{"NamespaceName":"shop","ServiceName":"cart"}`},
		"DiscoverInstancesRevision":        {srv, `{"NamespaceName":"shop","ServiceName":"cart"}`},
		"TagResource":                      {srv, `{"ResourceARN":"` + srv + `","Tags":[{"Key":"new","Value":""}]}`},
		"UntagResource":                    {srv, `{"ResourceARN":"` + srv + `","TagKeys":["a"]}`},
		"ListTagsForResource":              {srv, `{"ResourceARN":"` + srv + `"}`},
	}
	before, err := w.r.store.Records(t.Context(), self, "registry")
	if err != nil {
		t.Fatal(err)
	}
	for operation := range operations {
		want, ok := asked[operation]
		if !ok {
			t.Errorf("%s is not asked about here", operation)
			continue
		}
		c, got := asks(operation)
		_, err := (&world{t, w.r, c}).try(operation, "%s", want[1])
		if err == nil || !strings.Contains(err.Error(), string(mesh.ErrForbidden)) {
			t.Errorf("%s: %v, want a refusal", operation, err)
		}
		q := got()
		if len(q) != 1 || q[0].Resource != want[0] || q[0].Resource == srv && !slices.Equal(q[0].ResourceTags, tags) {
			t.Errorf("%s asked %+v, want %s with its tags", operation, q, want[0])
		}
		if status, code, _ := Refusal(operation, err, mesh.Errorf(mesh.ErrForbidden, "no")); status != 400 || code != errAccessDenied {
			t.Errorf("%s: %d %s", operation, status, code)
		}
	}
	after, err := w.r.store.Records(t.Context(), self, "registry")
	if err != nil {
		t.Fatal(err)
	}
	diff(t, before, after)
	// What is missing is asked about before it is said to be.
	c, got := asks("GetService")
	if _, err := (&world{t, w.r, c}).try("GetService", `{"Id":"srv-none"}`); err == nil || strings.Contains(err.Error(), "srv-none") {
		t.Errorf("%v tells that there is none", err)
	}
	diff(t, here.arn(serviceKind, "srv-none"), got()[0].Resource)
}

// Accounts and regions know nothing of each other.
func TestPlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := w.shop()
	w.register(service, "i", `{}`)
	other := &world{t, w.r, caller("000000000002")}
	other.refused(ErrServiceNotFound, service, "GetService", `{"Id":%q}`, service)
	other.refused(ErrNamespaceNotFound, "shop", "DiscoverInstances", `{"NamespaceName":"shop","ServiceName":"cart"}`)
	diff(t, any([]any{}), other.do("ListNamespaces", `{}`)["Namespaces"])
	other.shop()
	elsewhere := &world{t, w.r, caller(testAccount)}
	elsewhere.c.Region = "eu-west-1"
	elsewhere.refused(ErrServiceNotFound, service, "GetService", `{"Id":%q}`, service)
	elsewhere.shop()
	diff(t, []string{"i"}, w.r.ids())
	// An account that has namespaces is not deleted; with them its operations would be left.
	err := w.r.store.DeleteAccount(t.Context(), self, "000000000002", nil)
	if err == nil || !strings.Contains(err.Error(), "Cloud Map") {
		t.Errorf("deleting the account: %v", err)
	}
}

// Lists come in pages that are complete, whatever their size, and begin anywhere again.
func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := w.shop()
	var want []string
	for i := range 7 {
		id := fmt.Sprintf("i%d", i)
		want = append(want, id)
		w.register(service, id, `{}`)
	}
	for size := 1; size <= 8; size++ {
		var got []string
		token := ""
		for {
			out := w.do("ListInstances", `{"ServiceId":%q,"MaxResults":%d,"NextToken":%q}`, service, size, token)
			for _, i := range out["Instances"].([]any) {
				got = append(got, i.(map[string]any)["Id"].(string))
			}
			next, more := out["NextToken"].(string)
			if !more {
				break
			}
			token = next
		}
		diff(t, want, got)
		if token != "" {
			w.refused(ErrInvalidInput, "NextToken", "GetInstancesHealthStatus", `{"ServiceId":%q,"NextToken":%q}`, service, token)
		}
	}
	ops := w.do("ListOperations", `{"Filters":[{"Name":"TYPE","Values":["REGISTER_INSTANCE","CREATE_NAMESPACE"],"Condition":"IN"},{"Name":"UPDATE_DATE","Values":["1","99999999999"],"Condition":"BETWEEN"}]}`)
	diff(t, 8, len(ops["Operations"].([]any)))
	none := w.do("ListOperations", `{"Filters":[{"Name":"UPDATE_DATE","Values":["1","2"],"Condition":"BETWEEN"}]}`)
	diff(t, 0, len(none["Operations"].([]any)))
}

// Whoever subscribed is told of each service whose instances change, and of no other.
func TestSubscribe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := w.shop()
	var mu sync.Mutex
	told := map[string]int{}
	stop := w.r.Subscribe(func(k mesh.InstancesKey) {
		mu.Lock()
		defer mu.Unlock()
		told[k.Namespace+"/"+k.Service]++
	})
	count := func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		out := told
		told = map[string]int{}
		return out
	}
	cart := map[string]int{"shop/cart": 1}
	for _, step := range []func(){
		func() { w.register(service, "i", `{}`) },
		func() { w.register(service, "i", `{"a":"b"}`) },
		func() {
			w.do("UpdateInstanceCustomHealthStatus", `{"ServiceId":%q,"InstanceId":"i","Status":"UNHEALTHY"}`, service)
		},
		func() { w.do("DeregisterInstance", `{"ServiceId":%q,"InstanceId":"i"}`, service) },
		func() { w.do("DeleteService", `{"Id":%q}`, service) },
	} {
		step()
		diff(t, cart, count())
	}
	w.namespace("other")
	if err := w.r.Import(t.Context(), testAccount, testRegion, "a/b", "c", []mesh.Instance{{ID: "x"}}); err != nil {
		t.Fatal(err)
	}
	diff(t, map[string]int{"a/b/c": 1}, count())
	stop()
	if err := w.r.Import(t.Context(), testAccount, testRegion, "a/b", "c", nil); err != nil {
		t.Fatal(err)
	}
	diff(t, map[string]int{}, count())
}

// What was imported is shown beside what is registered, and only what changed is written.
func TestImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	var many []mesh.Instance
	for i := range 150 {
		many = append(many, mesh.Instance{ID: fmt.Sprintf("m%03d", i), IPv4: "10.0.0.1", Port: 80, Attributes: map[string]string{"n": fmt.Sprint(i)}})
	}
	imported := func(all []mesh.Instance) {
		t.Helper()
		if err := w.r.Import(ctx, testAccount, testRegion, "aws", "api", all); err != nil {
			t.Fatal(err)
		}
		got, ok := w.r.Instances(here.instancesKey(serviceName{"aws", "api"}))
		if diff(t, true, ok); len(got)+len(all) > 0 {
			diff(t, all, got)
		}
	}
	revision := func() any {
		return w.do("DiscoverInstancesRevision", `{"NamespaceName":"aws","ServiceName":"api"}`)["InstancesRevision"]
	}
	imported(many)
	first := revision()
	imported(many)
	diff(t, first, revision())
	less := append(slices.Clone(many[:3]), many[10:]...)
	less[1].Unhealthy = true
	imported(less)
	if diff(t, 143, len(less)); revision() == first {
		t.Error("the revision stays although instances changed")
	}
	out := w.do("DiscoverInstances", `{"NamespaceName":"aws","ServiceName":"api","HealthStatus":"UNHEALTHY"}`)
	diff(t, 1, len(out["Instances"].([]any)))
	imported(nil)
	// Registered beside imported: what is registered wins, and alone can be taken out.
	service := w.shop()
	if err := w.r.Import(ctx, testAccount, testRegion, "shop", "cart", []mesh.Instance{{ID: "a", IPv4: "1.1.1.1"}, {ID: "b"}}); err != nil {
		t.Fatal(err)
	}
	w.register(service, "a", `{"AWS_INSTANCE_IPV4":"2.2.2.2"}`)
	diff(t, []string{"a", "b"}, w.r.ids())
	got, _ := w.r.Instances(here.instancesKey(serviceName{"shop", "cart"}))
	diff(t, "2.2.2.2", got[0].IPv4)
	if again, _ := w.r.Instances(here.instancesKey(serviceName{"shop", "cart"})); &again[0] != &got[0] {
		t.Error("a list that has not changed is made again") // translations know by it that it has not
	}
	w.refused(ErrInstanceNotFound, "imported", "DeregisterInstance", `{"ServiceId":%q,"InstanceId":"b"}`, service)
	w.do("DeregisterInstance", `{"ServiceId":%q,"InstanceId":"a"}`, service)
	got, _ = w.r.Instances(here.instancesKey(serviceName{"shop", "cart"}))
	diff(t, "1.1.1.1", got[0].IPv4)
	if err := w.r.Forget(ctx, testAccount, testRegion, "aws", "api"); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.r.Instances(here.instancesKey(serviceName{"aws", "api"})); ok {
		t.Error("what was forgotten exists")
	}
	for _, bad := range []mesh.Instance{{}, {ID: "x"}} {
		if err := w.r.Import(ctx, testAccount, testRegion, "n", "s", []mesh.Instance{{ID: "x"}, bad}); err == nil {
			t.Errorf("%+v was imported", bad)
		}
	}
}

// Without a right to anything nothing is done: a caller without policies.
func TestNoPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.c.Allow = nil
	if _, err := w.try("ListNamespaces", `{}`); err == nil {
		t.Error("a caller without policies lists namespaces")
	}
	if _, err := w.r.store.Records(t.Context(), store.Caller{}, followed); err == nil {
		t.Error("a caller that is not part of Fairlead reads records")
	}
}
