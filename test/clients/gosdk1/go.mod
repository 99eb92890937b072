module github.com/fairlead-mesh/fairlead/test/clients/gosdk1

go 1.26.0

require (
	github.com/aws/aws-sdk-go v1.44.252
	github.com/google/go-cmp v0.7.0
	golang.org/x/net v0.61.0
)

require github.com/jmespath/go-jmespath v0.4.0 // indirect
