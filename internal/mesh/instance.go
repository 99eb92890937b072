package mesh

// Instance is one registered instance of a Cloud Map service.
type Instance struct {
	ID         string
	IPv4, IPv6 string            // AWS_INSTANCE_IPV4, AWS_INSTANCE_IPV6; "" for none
	Port       uint32            // AWS_INSTANCE_PORT; 0 for none: the listener's port holds
	Zone       string            // AVAILABILITY_ZONE, "" if unknown
	Attributes map[string]string // all of them, the above included
	Unhealthy  bool              // by its custom health status
}

// InstancesKey says which service's instances are meant: those of an account in a region.
type InstancesKey struct{ Account, Region, Namespace, Service string }

// Instances finds the instances of a service, in the order of their ids, and tells
// whether there is such a service. What it returns is never changed.
type Instances func(InstancesKey) ([]Instance, bool)

// find is f, for which nil knows no service.
func (f Instances) find(k InstancesKey) ([]Instance, bool) {
	if f == nil {
		return nil, false
	}
	return f(k)
}

// discovered returns the service of which the instances of a virtual node are, where AWS
// Cloud Map discovers it. Names in the registry belong to the account that owns the node.
func discovered(m MeshID, owner string, spec *VirtualNodeSpec) (InstancesKey, bool) {
	d := spec.ServiceDiscovery
	if d == nil || d.Dns != nil || d.AwsCloudMap == nil {
		return InstancesKey{}, false
	}
	return InstancesKey{
		Account: owner, Region: m.Region,
		Namespace: d.AwsCloudMap.NamespaceName, Service: d.AwsCloudMap.ServiceName,
	}, true
}
