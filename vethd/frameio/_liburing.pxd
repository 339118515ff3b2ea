"""What uring.pyx uses of liburing (2.2 or later); see its manual pages."""

cdef extern from "<errno.h>" nogil:
    enum:
        ECANCELED, EOPNOTSUPP

cdef extern from "<liburing.h>" nogil:
    """
    #include <sys/syscall.h>
    #include <unistd.h>
    /* Two that stand in the header of liburing 2.3, but are not in the library. */
    #define vethd_register(ring_fd, opcode, argument, count) \\
        (syscall(SYS_io_uring_register, (ring_fd), (opcode), (argument), (count)) < 0 ? -errno : 0)
    #define vethd_flags(pointer) (*(volatile unsigned *)(pointer))
    #define vethd_barrier() __sync_synchronize()
    """
    ctypedef unsigned long long __u64
    struct io_uring_sqe:
        unsigned char opcode
        unsigned char flags
        int fd
        __u64 off
        __u64 addr
        unsigned len
        int rw_flags
        __u64 user_data
        unsigned short buf_group
    struct io_uring_cqe:
        __u64 user_data
        int res
        unsigned flags
    struct io_uring_sq:
        unsigned *kflags
    struct io_uring:
        io_uring_sq sq
        int ring_fd
    struct io_uring_params:
        unsigned flags
        unsigned cq_entries
    struct io_uring_buf_ring:
        pass
    struct io_uring_buf_reg:
        __u64 ring_addr
        unsigned ring_entries
        unsigned short bgid
    struct io_uring_probe:
        pass
    struct io_uring_restriction:
        unsigned short opcode
        unsigned char sqe_op
        unsigned char sqe_flags
    int io_uring_queue_init_params(unsigned, io_uring *, io_uring_params *)
    void io_uring_queue_exit(io_uring *)
    io_uring_sqe *io_uring_get_sqe(io_uring *)
    int io_uring_submit(io_uring *)
    int io_uring_submit_and_wait(io_uring *, unsigned)
    int io_uring_submit_and_get_events(io_uring *)
    unsigned io_uring_peek_batch_cqe(io_uring *, io_uring_cqe **, unsigned)
    void io_uring_cq_advance(io_uring *, unsigned)
    unsigned io_uring_cq_ready(io_uring *)
    unsigned io_uring_sq_ready(io_uring *)
    int io_uring_register_eventfd(io_uring *, int)
    int io_uring_cq_eventfd_toggle(io_uring *, bint)
    int io_uring_register_buf_ring(io_uring *, io_uring_buf_reg *, unsigned)
    void io_uring_buf_ring_init(io_uring_buf_ring *)
    void io_uring_buf_ring_add(io_uring_buf_ring *, void *, unsigned, unsigned short, int, int)
    void io_uring_buf_ring_advance(io_uring_buf_ring *, int)
    io_uring_probe *io_uring_get_probe_ring(io_uring *)
    int io_uring_opcode_supported(io_uring_probe *, int)
    void io_uring_free_probe(io_uring_probe *)
    unsigned vethd_flags(unsigned *)
    void vethd_barrier()
    int vethd_register(int, unsigned, void *, unsigned)
    enum:
        IORING_SETUP_CQSIZE, IORING_SETUP_SUBMIT_ALL, IORING_SETUP_COOP_TASKRUN, IORING_SETUP_TASKRUN_FLAG
        IORING_SETUP_SINGLE_ISSUER, IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_R_DISABLED
        IORING_REGISTER_RESTRICTIONS, IORING_REGISTER_ENABLE_RINGS
        IORING_RESTRICTION_SQE_OP, IORING_RESTRICTION_SQE_FLAGS_ALLOWED
        IORING_SQ_CQ_OVERFLOW, IORING_SQ_TASKRUN
        IORING_OP_ASYNC_CANCEL, IORING_OP_READ, IORING_OP_WRITE
        IOSQE_BUFFER_SELECT
        IORING_CQE_F_BUFFER, IORING_CQE_F_MORE, IORING_CQE_BUFFER_SHIFT
