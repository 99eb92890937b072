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
