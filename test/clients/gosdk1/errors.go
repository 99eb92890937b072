package main

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/awserr"
	"github.com/aws/aws-sdk-go/service/appmesh"
)

// typed tells for each code of the model whether an error is of the SDK's type for it.
var typed = map[string]func(error) awserr.RequestFailure{
	appmesh.ErrCodeBadRequestException:          as[*appmesh.BadRequestException],
	appmesh.ErrCodeConflictException:            as[*appmesh.ConflictException],
	appmesh.ErrCodeForbiddenException:           as[*appmesh.ForbiddenException],
	appmesh.ErrCodeInternalServerErrorException: as[*appmesh.InternalServerErrorException],
	appmesh.ErrCodeLimitExceededException:       as[*appmesh.LimitExceededException],
	appmesh.ErrCodeNotFoundException:            as[*appmesh.NotFoundException],
	appmesh.ErrCodeResourceInUseException:       as[*appmesh.ResourceInUseException],
	appmesh.ErrCodeServiceUnavailableException:  as[*appmesh.ServiceUnavailableException],
	appmesh.ErrCodeTooManyRequestsException:     as[*appmesh.TooManyRequestsException],
	appmesh.ErrCodeTooManyTagsException:         as[*appmesh.TooManyTagsException],
}

func as[E awserr.RequestFailure](err error) awserr.RequestFailure {
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
	if found.Code() != code || found.Message() == "" || found.RequestID() == "" || found.StatusCode() < 400 {
		return fmt.Errorf("%s: the error lacks its code, its text or the request's id: %w", code, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
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
	_, err := r.DescribeVirtualNode(&appmesh.DescribeVirtualNodeInput{MeshName: mesh, VirtualNodeName: aws.String("nowhere")})
	expect(appmesh.ErrCodeNotFoundException, err)
	_, err = r.CreateVirtualNode(&appmesh.CreateVirtualNodeInput{MeshName: mesh, VirtualNodeName: aws.String("blue"), Spec: &appmesh.VirtualNodeSpec{}})
	expect(appmesh.ErrCodeConflictException, err)
	_, err = r.DeleteVirtualNode(&appmesh.DeleteVirtualNodeInput{MeshName: mesh, VirtualNodeName: aws.String("blue")})
	expect(appmesh.ErrCodeResourceInUseException, err)
	spec := &appmesh.VirtualRouterSpec{Listeners: []*appmesh.VirtualRouterListener{{PortMapping: port(65536, "bogus")}}}
	_, err = r.UpdateVirtualRouter(&appmesh.UpdateVirtualRouterInput{MeshName: mesh, VirtualRouterName: aws.String("spare"), Spec: spec})
	expect(appmesh.ErrCodeBadRequestException, err)
	var many []*appmesh.TagRef
	for i := range 49 {
		many = append(many, tags("k"+strconv.Itoa(i), "")...)
	}
	_, err = r.TagResource(&appmesh.TagResourceInput{ResourceArn: &arn, Tags: many})
	expect(appmesh.ErrCodeTooManyTagsException, err)
}

// provoke meets the errors that the tests have prepared, each elsewhere.
func (r *run) provoke() error {
	for _, p := range r.Provoked {
		client := r.client(p.login)
		var err error
		for i := 0; err == nil && i < p.Times; i++ {
			if p.Call == "create" {
				name := r.Mesh + "-" + strconv.Itoa(i)
				_, err = client.CreateVirtualNode(&appmesh.CreateVirtualNodeInput{MeshName: &p.Mesh, VirtualNodeName: &name, Spec: &appmesh.VirtualNodeSpec{}})
			} else {
				_, err = client.DescribeVirtualNode(&appmesh.DescribeVirtualNodeInput{MeshName: &p.Mesh, VirtualNodeName: aws.String("node")})
			}
		}
		if err := r.refused(p.Code, err); err != nil {
			return err
		}
	}
	return nil
}
