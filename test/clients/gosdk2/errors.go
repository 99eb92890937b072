package main

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"
	"github.com/aws/smithy-go"
)

// typed tells for each code of the model whether an error is of the SDK's type for it.
var typed = map[string]func(error) smithy.APIError{
	"BadRequestException":          as[*types.BadRequestException],
	"ConflictException":            as[*types.ConflictException],
	"ForbiddenException":           as[*types.ForbiddenException],
	"InternalServerErrorException": as[*types.InternalServerErrorException],
	"LimitExceededException":       as[*types.LimitExceededException],
	"NotFoundException":            as[*types.NotFoundException],
	"ResourceInUseException":       as[*types.ResourceInUseException],
	"ServiceUnavailableException":  as[*types.ServiceUnavailableException],
	"TooManyRequestsException":     as[*types.TooManyRequestsException],
	"TooManyTagsException":         as[*types.TooManyTagsException],
}

func as[E smithy.APIError](err error) smithy.APIError {
	var found E
	if errors.As(err, &found) {
		return found
	}
	return nil
}

// refused checks that a call ended with an error of the type for code.
func (r *run) refused(code string, err error) error {
	if err == nil {
		return fmt.Errorf("%s: the call succeeded", code)
	}
	found := typed[code](err)
	if found == nil {
		return fmt.Errorf("%s: the call ended with %T: %w", code, err, err)
	}
	var response *awshttp.ResponseError
	if found.ErrorCode() != code || found.ErrorMessage() == "" || !errors.As(err, &response) || response.ServiceRequestID() == "" {
		return fmt.Errorf("%s: the error lacks its code, its text or the request's id: %w", code, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks++
	r.errors[code] = reflect.TypeOf(found).String()
	return nil
}

// refusals meets the errors that need nothing but the furnished mesh.
func (r *run) refusals(arn string) {
	mesh := &r.Mesh
	expect := func(code string, err error) {
		if err := r.refused(code, err); err != nil {
			fail("%w", err)
		}
	}
	_, err := r.DescribeVirtualNode(r.ctx, &appmesh.DescribeVirtualNodeInput{MeshName: mesh, VirtualNodeName: aws.String("nowhere")})
	expect("NotFoundException", err)
	_, err = r.CreateVirtualNode(r.ctx, &appmesh.CreateVirtualNodeInput{MeshName: mesh, VirtualNodeName: aws.String("blue"), Spec: &types.VirtualNodeSpec{}})
	expect("ConflictException", err)
	_, err = r.DeleteVirtualNode(r.ctx, &appmesh.DeleteVirtualNodeInput{MeshName: mesh, VirtualNodeName: aws.String("blue")})
	expect("ResourceInUseException", err)
	spec := &types.VirtualRouterSpec{Listeners: []types.VirtualRouterListener{{PortMapping: port(65536, "bogus")}}}
	_, err = r.UpdateVirtualRouter(r.ctx, &appmesh.UpdateVirtualRouterInput{MeshName: mesh, VirtualRouterName: aws.String("spare"), Spec: spec})
	expect("BadRequestException", err)
	var many []types.TagRef
	for i := range 49 {
		many = append(many, tags("k"+strconv.Itoa(i), "")...)
	}
	_, err = r.TagResource(r.ctx, &appmesh.TagResourceInput{ResourceArn: &arn, Tags: many})
	expect("TooManyTagsException", err)
}

// provoke meets the errors that the tests have prepared, each elsewhere.
func (r *run) provoke() error {
	for _, p := range r.Provoked {
		client := r.client(p.login)
		var err error
		for i := 0; err == nil && i < p.Times; i++ {
			if p.Call == "create" {
				name := r.Mesh + "-" + strconv.Itoa(i)
				_, err = client.CreateVirtualNode(r.ctx, &appmesh.CreateVirtualNodeInput{MeshName: &p.Mesh, VirtualNodeName: &name, Spec: &types.VirtualNodeSpec{}})
			} else {
				_, err = client.DescribeVirtualNode(r.ctx, &appmesh.DescribeVirtualNodeInput{MeshName: &p.Mesh, VirtualNodeName: aws.String("node")})
			}
		}
		if err := r.refused(p.Code, err); err != nil {
			return err
		}
	}
	return nil
}
