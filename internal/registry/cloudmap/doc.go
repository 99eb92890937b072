// Package cloudmap asks AWS Cloud Map for the instances of the services that proxies
// want, and hands what it learns on. App Mesh is gone; Cloud Map lives on, and the nodes
// that are discovered by it still register there.
//
// The package speaks to AWS by its SDK. It may import mesh, and knows neither the store
// nor the registry that keeps what it finds.
package cloudmap
